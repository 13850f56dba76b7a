"""What is looked at in prompts before a picture is made. Knows no protocol and no job."""
