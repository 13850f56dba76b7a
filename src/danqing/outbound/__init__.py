"""The only code that opens a socket to an address somebody else chose. Knows no picture and no job."""
