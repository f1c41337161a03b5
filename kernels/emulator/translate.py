"""Turns a preprocessed CUDA source (g++ -E) into C++: removes keywords that only nvcc knows and registers the kernels.

    translate.py preprocessed.ii translated.ii
"""

import re
import sys

IDENTIFIER = r"[A-Za-z_]\w*"
BOUNDS = re.compile(r"__launch_bounds__\s*\(((?:[^()]|\([^()]*\))*)\)")
KERNEL = re.compile(
    r'extern\s*"C"\s*(?P<head>(?:\s|__global__|void\b|__launch_bounds__\s*\((?:[^()]|\([^()]*\))*\)|#[^\n]*\n)+?)'
    rf"(?P<name>(?!__launch_bounds__\b|__global__\b|void\b){IDENTIFIER})\s*\("
)
DYNAMIC = re.compile(
    rf"extern\s+__shared__\s+(?:(?:__align__|alignas)\s*\([^()]*\)\s*)*"
    rf"(?P<type>[\w:<>\s]+?)\s*\b(?P<name>{IDENTIFIER})\s*\[\s*\]\s*;"
)


def kernels(text):
    for found in KERNEL.finditer(text):
        if "__global__" in found["head"]:
            bounds = BOUNDS.search(found["head"])
            # A macro's lines are separated by line markers, which may be inside the head.
            limit = re.sub(r"#[^\n]*\n", "", bounds[1]).split(",")[0] if bounds else "1024"
            yield found["name"], limit


def translate(text):
    registrations = [
        f'const cuda_emulator::KernelRegistration registered_{name}("{name}", '
        f"cuda_emulator::Signature<&{name}>::call, cuda_emulator::Signature<&{name}>::parameters(), {limit});"
        for name, limit in dict(kernels(text)).items()
    ]
    text = DYNAMIC.sub(
        lambda found: f"{found['type']}* {found['name']} = "
        f"static_cast<{found['type']}*>(cuda_emulator::dynamic_shared());",
        text,
    )
    text = re.sub(r"\b__align__\b", "alignas", BOUNDS.sub("", text))
    text = text.replace("__global__", "").replace("__shared__", "static")
    return text + "\nnamespace {\n" + "\n".join(registrations) + "\n}\n"


if __name__ == "__main__":
    with open(sys.argv[1]) as source, open(sys.argv[2], "w") as target:
        target.write(translate(source.read()))
