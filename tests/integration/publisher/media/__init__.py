"""Tests of images and videos of pins, on real servers."""
