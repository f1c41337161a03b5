//! What is kept and what is forgotten; `models/tests/stages.rs` shows that images do not change.

use super::*;
use crate::builtin;
use crate::config::Configs;
use crate::target::Target;

fn prompts() -> Prompts {
    let files = builtin::files().expect("the built-in model");
    let configs = Configs::read(&files).expect("configs");
    let mut problems = Vec::new();
    let encoders = TextEncoders::load(
        &files,
        &Target::host(),
        &configs.transformer,
        configs.index.has_t5(),
        &mut problems,
    );
    let adapted = AdaptedLayers::new(Vec::new(), &Target::host(), 0);
    Prompts::new(encoders.expect("encoders"), adapted)
}

fn known(prompts: &mut Prompts, text: &str) -> bool {
    prompts.encode(&[text], 16, &AdapterSet::default()).expect("a prompt").known == 1
}

#[test]
fn what_was_not_used_for_longest_is_forgotten_first() {
    let mut prompts = prompts();
    for text in ["a", "b", "c"] {
        assert!(!known(&mut prompts, text));
    }
    assert!(known(&mut prompts, "a"));
    let size = prompts.kept[0].bytes();
    prompts.forget(2 * size);
    let texts: Vec<_> = prompts.kept.iter().map(|kept| kept.text.as_str()).collect();
    assert_eq!(texts, ["c", "a"]);
    prompts.forget(2 * size - 1);
    assert!(known(&mut prompts, "a") && !known(&mut prompts, "c"));
    prompts.forget(0);
    assert!(prompts.kept.is_empty());
}

#[test]
fn no_more_is_kept_than_may_be() {
    let mut prompts = prompts();
    assert!(!known(&mut prompts, "a"));
    prompts.bytes = 2 * prompts.kept[0].bytes();
    for text in ["b", "c", "d"] {
        assert!(!known(&mut prompts, text));
    }
    assert_eq!(prompts.kept.len(), 2);
    prompts.bytes = 0;
    let encoded = prompts.encode(&["d", "e"], 16, &AdapterSet::default()).expect("prompts");
    assert_eq!((encoded.texts.len(), encoded.known, prompts.kept.len()), (2, 1, 0), "encoded all the same");
}
