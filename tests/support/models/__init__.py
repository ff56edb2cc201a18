"""Models and tokenizers made on the spot, in the forms in which published ones come: small, random, on files."""
