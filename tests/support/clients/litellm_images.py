"""LiteLLM in DashScope's OpenAI-compatible mode. Run by the interpreter that has it; the base URL is the first
argument, the key the second. Prints a line of JSON.
"""

import json
import sys

import litellm

base, key = sys.argv[1:]
given = {"api_base": base, "api_key": key, "prompt": "a red circle"}
made = litellm.image_generation(model="openai/qwen-image-3.0", n=2, size="1024x1024", **given)
try:
    litellm.image_generation(model="openai/qwen-image-edit-max", **given)
    refused = None
except litellm.exceptions.BadRequestError as problem:
    refused = "model_not_supported" in str(problem)
sys.stdout.write(json.dumps({"links": [picture["url"] for picture in made.data], "refused": refused}) + "\n")
