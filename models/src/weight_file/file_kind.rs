//! What a file is that is not in the safetensors format, by its first bytes.

/// What a file is, and what to do instead of opening it, if its first bytes are known: to be read after its name.
pub(super) fn describe(start: &[u8]) -> Option<&'static str> {
    const PICKLE: &str = "is a pickle, and to open a pickle is to run the program inside it, whoever wrote that: \
                          use the model's .safetensors file";
    let is_text = |word: &[u8]| {
        let text = start.trim_ascii_start();
        text.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word))
    };
    match start {
        // torch's zip holds one; by itself it begins with the number of its protocol, since protocol 2.
        [b'P', b'K', 3, 4, ..] if contains(start, b"data.pkl") => Some(PICKLE),
        [0x80, 0..=5, ..] => Some(PICKLE),
        [b'P', b'K', 3, 4, ..] => Some("is a zip archive: use the model's .safetensors file"),
        _ if is_text(b"version https://git-lfs") => Some(
            "is a pointer of Git LFS, not the file it points to: run `git lfs pull`, or download the file",
        ),
        _ if is_text(b"<!doctype") || is_text(b"<html") => {
            Some("is a web page, probably one that says why there was no download: download the file again")
        }
        _ => None,
    }
}

/// First bytes of a file that [`describe`] needs.
pub(super) const START: usize = 256;

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}
