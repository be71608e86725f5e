"""How files of each kind are read, and written back in the same form."""
