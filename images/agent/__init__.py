"""The lock-step agent of the concentrator's guest: sources in C, and how they become a program of the image."""
