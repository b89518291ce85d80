"""Pictures of trainings, drawn by matplotlib where it is installed."""
