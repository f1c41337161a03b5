//! Reads a model directory in which the input replaces one config file: its first byte selects the file.
#![no_main]

use latentd_models::{ModelCard, ModelSource};
use std::path::Path;
use std::sync::LazyLock;

const FILES: [(&str, &str); 4] = [
    ("model_index.json", r#"{"_class_name": "StableDiffusion3Pipeline"}"#),
    ("transformer/config.json", include_str!("../../tests/parity/golden/base/model/transformer/config.json")),
    ("vae/config.json", include_str!("../../tests/parity/golden/base/model/vae/config.json")),
    ("scheduler/scheduler_config.json", r#"{"num_train_timesteps": 1000, "shift": 3.0}"#),
];

static DIRECTORY: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a directory");
    for part in ["transformer", "vae", "scheduler"] {
        std::fs::create_dir(dir.path().join(part)).expect("a directory");
    }
    for (file, text) in FILES {
        write(&dir.path().join(file), text.as_bytes());
    }
    dir
});

fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("written");
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((which, text)) = bytes.split_first() else { return };
    let (file, whole) = FILES[usize::from(*which) % FILES.len()];
    let path = DIRECTORY.path().join(file);
    write(&path, text);
    match ModelCard::read(&ModelSource::Directory(DIRECTORY.path().to_path_buf())) {
        Ok(card) => {
            for side in [0, 1, 1024, usize::MAX] {
                drop(card.canvas(side, 1024));
            }
        }
        Err(error) => {
            let words = error.to_string();
            assert!(words.chars().count() < 600 && !words.contains('\n'), "{words}");
        }
    }
    write(&path, whole.as_bytes());
});
