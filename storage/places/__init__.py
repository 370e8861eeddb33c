"""Where stores lie: folders of this machine, and buckets behind URLs."""
