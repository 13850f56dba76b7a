"""The command line: thin commands over the public API and the operator socket. Makes no picture itself."""
