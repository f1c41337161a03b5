//! Algorithms chosen once, kept in a file for later processes: timing takes a while, and may end otherwise next time.
//!
//! There is a file for each card and version of its libraries. Processes may share a folder: whoever chooses first for a
//! key is followed by all. A file that is not as it was written counts for nothing, and the next choice replaces it.

use cudarc::cublaslt::sys::cublasLtMatmulAlgo_t;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The first line of a file. Another way to choose, to write keys or to write the file is another number.
const FORMAT: &str = "latentd cuBLASLt choices 1";

/// What cuBLASLt's manual calls opaque, and fit to be stored and used again by the same version of the library.
pub(super) type Algorithm = cublasLtMatmulAlgo_t;

type Known = BTreeMap<String, Algorithm>;

/// The choices of one card.
pub(super) struct Choices {
    path: PathBuf,
    /// Everything besides the key that a choice depends on, in one line.
    card: String,
    warned: bool,
}

impl Choices {
    pub(super) fn new(folder: &Path, card: String) -> Self {
        let name = card.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        Self { path: folder.join(format!("cublaslt-{name}.txt")), card, warned: false }
    }

    /// What was chosen for `key`.
    pub(super) fn find(&mut self, key: &str) -> Option<Algorithm> {
        self.read().get(key).copied()
    }

    /// Keeps a choice, unless another process was faster. Returns the one that is kept now, which replaces `refused`.
    pub(super) fn keep(&mut self, key: &str, chosen: Algorithm, refused: Option<Algorithm>) -> Algorithm {
        match self.agree(key, chosen, refused) {
            Ok(kept) => kept,
            Err(error) => {
                self.warn(&format!("the fastest algorithms cannot be kept: {error}"));
                chosen
            }
        }
    }

    fn agree(&mut self, key: &str, chosen: Algorithm, refused: Option<Algorithm>) -> io::Result<Algorithm> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        // Locked until it is dropped.
        let lock = File::create(self.path.with_extension("lock"))?;
        lock.lock()?;
        let mut known = self.read();
        if let Some(theirs) = known.get(key).filter(|theirs| Some(**theirs) != refused) {
            return Ok(*theirs);
        }
        known.insert(key.to_owned(), chosen);
        // Readers see the old file or the new one.
        let new = self.path.with_extension("new");
        fs::write(&new, render(&self.card, &known))?;
        fs::rename(&new, &self.path)?;
        Ok(chosen)
    }

    /// What the file says, nothing if there is none or it cannot be used.
    fn read(&mut self) -> Known {
        let parsed = match fs::read_to_string(&self.path) {
            Ok(text) => parse(&text, &self.card),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Known::new()),
            Err(error) => Err(error.to_string()),
        };
        parsed.unwrap_or_else(|why| {
            self.warn(&format!("{why}; algorithms are chosen anew"));
            Known::new()
        })
    }

    /// Once: the same is wrong at every product.
    fn warn(&mut self, why: &str) {
        if !std::mem::replace(&mut self.warned, true) {
            tracing::warn!("{}: {why}", self.path.display());
        }
    }
}

fn render(card: &str, known: &Known) -> String {
    let line = |(key, algorithm): (&String, &Algorithm)| {
        let words: Vec<_> = algorithm.data.iter().map(|word| format!("{word:016x}")).collect();
        format!("{key} = {}\n", words.join(" "))
    };
    let body = format!("{FORMAT}\n{card}\n{}", known.iter().map(line).collect::<String>());
    let sum = crc32fast::hash(body.as_bytes());
    format!("{body}{SUM}{sum:08x}\n")
}

/// Before the checksum of all that is above it.
const SUM: &str = "crc32 ";

fn parse(text: &str, card: &str) -> Result<Known, String> {
    let (body, sum) = text.rsplit_once(SUM).ok_or("it is cut off or not ours")?;
    if sum != format!("{:08x}\n", crc32fast::hash(body.as_bytes())) {
        return Err("it is damaged".to_owned());
    }
    let mut lines = body.lines();
    if lines.next() != Some(FORMAT) {
        return Err("it is another version's".to_owned());
    }
    if lines.next() != Some(card) {
        return Err("it is another card's".to_owned());
    }
    lines.map(|line| entry(line).ok_or_else(|| format!("it says \"{line}\""))).collect()
}

fn entry(line: &str) -> Option<(String, Algorithm)> {
    let (key, words) = line.split_once(" = ")?;
    let words = words.split(' ').map(|word| u64::from_str_radix(word, 16));
    let data: Vec<u64> = words.collect::<Result<_, _>>().ok()?;
    Some((key.to_owned(), Algorithm { data: data.try_into().ok()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: &str = "a card, 9.0";

    fn algorithm(number: u64) -> Algorithm {
        Algorithm { data: [number, u64::MAX, 0, 1, 2, 3, 4, number] }
    }

    fn choices(folder: &Path) -> Choices {
        Choices::new(folder, CARD.to_owned())
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    #[test]
    fn a_choice_is_found_by_later_processes_of_the_same_card() {
        let folder = folder();
        let below = folder.path().join("not/yet/there");
        assert_eq!(choices(&below).find("a"), None);
        assert_eq!(choices(&below).keep("a", algorithm(1), None), algorithm(1));
        choices(&below).keep("b", algorithm(2), None);
        let mut later = choices(&below);
        assert_eq!([later.find("a"), later.find("b")], [Some(algorithm(1)), Some(algorithm(2))]);
        assert_eq!(later.find("c"), None);
        assert_eq!(Choices::new(&below, "another card".to_owned()).find("a"), None);
        assert!(!later.warned);
    }

    #[test]
    fn the_first_to_choose_is_followed_unless_its_choice_is_refused() {
        let folder = folder();
        choices(folder.path()).keep("a", algorithm(1), None);
        assert_eq!(choices(folder.path()).keep("a", algorithm(2), None), algorithm(1));
        assert_eq!(choices(folder.path()).keep("a", algorithm(2), Some(algorithm(3))), algorithm(1));
        assert_eq!(choices(folder.path()).keep("a", algorithm(2), Some(algorithm(1))), algorithm(2));
        assert_eq!(choices(folder.path()).find("a"), Some(algorithm(2)));
    }

    /// Whoever reads or writes at the same time: nothing is lost, and all agree.
    #[test]
    fn many_may_choose_at_once() {
        let folder = folder();
        let choose = |number: u64| {
            let mut mine = choices(folder.path());
            mine.keep(&format!("only {number}"), algorithm(number), None);
            let common = mine.keep("common", algorithm(number), None);
            assert!(!mine.warned);
            common
        };
        let common: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16).map(|number| scope.spawn(move || choose(number))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(common.iter().all(|choice| *choice == common[0]));
        let mut later = choices(folder.path());
        for number in 0..16 {
            assert_eq!(later.find(&format!("only {number}")), Some(algorithm(number)));
        }
        assert_eq!(later.find("common"), Some(common[0]));
    }

    #[test]
    fn what_is_not_as_it_was_written_counts_for_nothing_and_is_replaced() {
        let folder = folder();
        let good = render(CARD, &Known::from([("a".to_owned(), algorithm(1))]));
        assert_eq!(parse(&good, CARD), Ok(Known::from([("a".to_owned(), algorithm(1))])));
        let sealed = |body: &str| format!("{body}{SUM}{:08x}\n", crc32fast::hash(body.as_bytes()));
        let wrong = [
            Vec::new(),
            b"\xff\xfe not text".to_vec(),
            b"{\"somebody\": \"else's\"}".to_vec(),
            good.as_bytes()[..good.len() / 2].to_vec(),
            good.replacen("0001", "0002", 1).into_bytes(),
            render("another card", &Known::new()).into_bytes(),
            sealed(&format!("latentd cuBLASLt choices 0\n{CARD}\n")).into_bytes(),
            sealed(&format!("{FORMAT}\n{CARD}\na = 1 2 3\n")).into_bytes(),
        ];
        for bytes in wrong {
            let mut mine = choices(folder.path());
            fs::write(&mine.path, &bytes).expect("a file");
            assert_eq!(mine.find("a"), None, "{}", String::from_utf8_lossy(&bytes));
            assert!(mine.warned);
            mine.keep("a", algorithm(5), None);
            assert_eq!(choices(folder.path()).find("a"), Some(algorithm(5)));
        }
    }

    #[test]
    fn where_nothing_can_be_kept_the_choice_holds_all_the_same() {
        let folder = folder();
        let in_the_way = folder.path().join("cache");
        fs::write(&in_the_way, "a file").expect("a file");
        let mut mine = choices(&in_the_way);
        assert_eq!(mine.keep("a", algorithm(1), None), algorithm(1));
        assert!(mine.warned);
    }
}
