"""What lies under OUT is listed, verified, and dropped; what a sweep made is shown."""
