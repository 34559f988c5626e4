"""What is seen on this machine: one file a probe, which reads, then judges, and never changes anything."""
