"""What lies on disk, in forms that other tools take."""
