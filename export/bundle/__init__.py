"""Write the files of a bundle and publish it atomically."""
