"""The main job on real data: `story.tell` runs it against the embedded stack, and checks every number that it shows."""
