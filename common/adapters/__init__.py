"""LoRA and soft prompts: the trained parameters of a base model, their file format and their cached frozen inputs."""
