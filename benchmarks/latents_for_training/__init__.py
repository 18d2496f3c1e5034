"""Study: do latents that the engine has optimised train a better generative model than the encoder's?"""
