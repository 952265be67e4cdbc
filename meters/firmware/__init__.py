"""What runs on the meter. It never knows that its hardware is emulated."""
