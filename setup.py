from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["nnlo", "nnlo.*"]), "nnlo.drivers", "nnlo.models"],
    package_dir={"nnlo": "nnlo", "nnlo.drivers": "drivers", "nnlo.models": "models"},
)
