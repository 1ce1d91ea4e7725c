"""What our things are (images, flows, hints, experiments) and how they get on and off disk."""
