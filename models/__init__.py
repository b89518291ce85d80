"""Ready-made models, installed as nnlo.models: each module has get_model(**params)."""
