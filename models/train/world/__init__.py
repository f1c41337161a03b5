"""The illustrated world: what a scene is (`scene`), how it is drawn (`render`) and described (`captions`)."""
