"""What pipeline authors write with: pipelines, their steps, sources and outputs."""
