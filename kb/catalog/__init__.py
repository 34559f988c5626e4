"""Which flag and which environment variable each engine release knows: the recorded history and the program that extends it."""
