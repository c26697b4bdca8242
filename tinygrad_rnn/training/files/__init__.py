"""Files: archives of arrays, checkpoints, modules, and the lock of a folder."""
