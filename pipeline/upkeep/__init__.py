"""What lies under OUT is listed, verified, and dropped."""
