"""Other tools' config files, read into our settings; what became of every key is said."""
