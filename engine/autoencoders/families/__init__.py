"""How each class of diffusers' autoencoders becomes a decoder, an encoder and a scaling; one file per kind of class."""
