"""`make bench-gpu`: what this project does on a GPU, against the machine's ceilings and peers."""
