"""The stages: each is one function that takes the config and leaves files and tracked values behind."""
