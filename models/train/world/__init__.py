"""The illustrated world: what a scene is (`scene`), how it is drawn (`render`) and how it is told (`captions`)."""
