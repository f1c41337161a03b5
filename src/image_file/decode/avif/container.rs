//! The boxes of an AVIF file (ISO 14496-12 and 23008-12): where the data of an item is, and its properties. No number of
//! a file is believed: whatever is not inside its box reads as `None`.

use super::color::Signal;
use image::metadata::Orientation;
use std::borrow::Cow;

/// Bytes of a `meta` box that are read; those of real files have a few hundred.
const MAX_META: usize = 1_000_000;

/// Big-endian fields, one after another.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    /// An unsigned number of up to 8 bytes.
    fn number(&mut self, bytes: usize) -> Option<u64> {
        Some(self.bytes(bytes)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// A number of 16 or 32 bits.
    fn number_of(&mut self, is_long: bool) -> Option<u32> {
        Some(self.number(if is_long { 4 } else { 2 })? as u32)
    }

    /// Version and flags of a box that has them.
    fn version(&mut self) -> Option<(u8, u32)> {
        let number = self.number(4)?;
        Some(((number >> 24) as u8, number as u32 & 0xff_ffff))
    }

    /// The next box: its name and what it contains.
    fn next_box(&mut self) -> Option<([u8; 4], Fields<'a>)> {
        let whole = self.0;
        let size = self.number(4)?;
        let name = *self.bytes(4)?.first_chunk()?;
        let size = match size {
            0 => whole.len(),
            1 => usize::try_from(self.number(8)?).ok()?,
            size => size as usize,
        };
        let content = whole.get(whole.len() - self.0.len()..size)?;
        self.0 = &whole[size..];
        Some((name, Fields(content)))
    }

    fn boxes(mut self) -> impl Iterator<Item = ([u8; 4], Fields<'a>)> {
        std::iter::from_fn(move || self.next_box())
    }

    fn find(self, name: &[u8; 4]) -> Option<Fields<'a>> {
        self.boxes().find(|(found, _)| found == name).map(|(_, content)| content)
    }
}

/// A file's `meta` box.
pub(super) struct Container<'a> {
    file: &'a [u8],
    meta: Fields<'a>,
}

/// An image item.
pub(super) struct Item<'a> {
    pub(super) id: u32,
    pub(super) kind: [u8; 4],
    pub(super) data: Cow<'a, [u8]>,
    /// How its colours are coded, where the container says so.
    pub(super) color: Option<Signal>,
    properties: Vec<([u8; 4], Fields<'a>)>,
    is_premultiplied: bool,
}

/// How a grid puts its tiles together.
pub(super) struct Grid {
    pub(super) rows: u32,
    pub(super) columns: u32,
    pub(super) size: (u32, u32),
}

impl<'a> Container<'a> {
    pub(super) fn open(file: &'a [u8]) -> Option<Self> {
        let mut meta = Fields(file).find(b"meta")?;
        meta.version()?;
        (meta.0.len() <= MAX_META).then_some(Self { file, meta })
    }

    pub(super) fn primary(&self) -> Option<Item<'a>> {
        let mut fields = self.meta.find(b"pitm")?;
        let (version, _) = fields.version()?;
        self.item(fields.number_of(version > 0)?)
    }

    /// The items that a grid consists of.
    pub(super) fn tiles(&self, grid: u32) -> impl Iterator<Item = u32> {
        self.references(*b"dimg", grid).unwrap_or_default().into_iter()
    }

    pub(super) fn item(&self, id: u32) -> Option<Item<'a>> {
        let properties = self.properties(id)?;
        let color = properties.iter().find_map(|(name, fields)| signal(name, *fields));
        let is_premultiplied = self.references(*b"prem", id).is_some_and(|ids| !ids.is_empty());
        Some(Item { id, kind: self.kind(id)?, data: self.data(id)?, color, properties, is_premultiplied })
    }

    fn references(&self, kind: [u8; 4], from: u32) -> Option<Vec<u32>> {
        let mut fields = self.meta.find(b"iref")?;
        let is_long = fields.version()?.0 > 0;
        for (_, mut fields) in fields.boxes().filter(|(name, _)| *name == kind) {
            if fields.number_of(is_long)? == from {
                let count = fields.number(2)?;
                return (0..count).map(|_| fields.number_of(is_long)).collect();
            }
        }
        Some(Vec::new())
    }

    fn kind(&self, id: u32) -> Option<[u8; 4]> {
        let mut fields = self.meta.find(b"iinf")?;
        let (version, _) = fields.version()?;
        fields.number_of(version > 0)?;
        fields.boxes().filter(|(name, _)| name == b"infe").find_map(|(_, mut entry)| {
            let (version, _) = entry.version()?;
            let found = entry.number_of(version > 2)?;
            entry.bytes(2)?;
            let kind = *entry.bytes(4)?.first_chunk()?;
            (version >= 2 && found == id).then_some(kind)
        })
    }

    /// The item's bytes, from as many places as `iloc` names.
    fn data(&self, id: u32) -> Option<Cow<'a, [u8]>> {
        let mut fields = self.meta.find(b"iloc")?;
        let (version, _) = fields.version()?;
        let sizes = fields.number(2)? as usize;
        let size = |shift: u32| sizes >> shift & 15;
        let (offset_size, length_size, base_size) = (size(12), size(8), size(4));
        let index_size = if version == 0 { 0 } else { size(0) };
        if offset_size.max(length_size).max(base_size).max(index_size) > 8 {
            return None;
        }
        let count = fields.number_of(version > 1)?;
        for _ in 0..count {
            let found = fields.number_of(version > 1)?;
            let method = if version == 0 { 0 } else { fields.number(2)? & 15 };
            let elsewhere = fields.number(2)? != 0;
            let base = fields.number(base_size)?;
            let extents = fields.number(2)?;
            let mut parts = Vec::new();
            let mut total = 0;
            for _ in 0..extents {
                fields.number(index_size)?;
                let (offset, length) = (fields.number(offset_size)?, fields.number(length_size)?);
                if found != id {
                    continue;
                }
                let source = match method {
                    0 if !elsewhere => self.file,
                    1 => self.meta.find(b"idat")?.0,
                    _ => return None,
                };
                let begin = usize::try_from(base.checked_add(offset)?).ok()?;
                let length = usize::try_from(length).ok()?;
                let end = if length == 0 { source.len() } else { begin.checked_add(length)? };
                let part = source.get(begin..end)?;
                // Parts may overlap, and must not add up to more than there is.
                total += part.len();
                (total <= self.file.len()).then_some(())?;
                parts.push(part);
            }
            if found == id {
                return match parts.as_slice() {
                    [part] => Some(Cow::Borrowed(part)),
                    parts => Some(Cow::Owned(parts.concat())),
                };
            }
        }
        None
    }

    fn properties(&self, id: u32) -> Option<Vec<([u8; 4], Fields<'a>)>> {
        let iprp = self.meta.find(b"iprp")?;
        let known = iprp.find(b"ipco")?;
        let mut found = Vec::new();
        for (_, mut fields) in iprp.boxes().filter(|(name, _)| name == b"ipma") {
            let (version, flags) = fields.version()?;
            let count = fields.number(4)?;
            for _ in 0..count {
                let owner = fields.number_of(version > 0)?;
                for _ in 0..fields.number(1)? {
                    // The first bit says that it must be understood.
                    let index =
                        if flags & 1 == 1 { fields.number(2)? & 0x7fff } else { fields.number(1)? & 0x7f };
                    if owner == id && index > 0 {
                        found.push(known.boxes().nth(index as usize - 1)?);
                    }
                }
            }
        }
        Some(found)
    }
}

impl Item<'_> {
    fn property(&self, name: &[u8; 4]) -> Option<Fields<'_>> {
        self.properties.iter().find(|(found, _)| found == name).map(|(_, fields)| *fields)
    }

    /// Width and height.
    pub(super) fn size(&self) -> Option<(u32, u32)> {
        let mut fields = self.property(b"ispe")?;
        fields.version()?;
        let size = (fields.number(4)? as u32, fields.number(4)? as u32);
        (size.0 > 0 && size.1 > 0).then_some(size)
    }

    /// What it has that would make other pixels of it than are decoded.
    pub(super) fn unsupported(&self) -> Option<&'static str> {
        let has = |name| self.property(name).is_some();
        if has(b"a1op") || has(b"a1lx") || has(b"lsel") {
            return Some("layers");
        }
        self.is_premultiplied.then_some("premultiplied alpha")
    }

    /// `irot` turns, then `imir` mirrors.
    pub(super) fn orientation(&self) -> Orientation {
        let value = |name| self.property(name).and_then(|mut fields| fields.number(1));
        let mirrored = value(b"imir").map(|axis| axis & 1);
        match (value(b"irot").unwrap_or(0) & 3, mirrored) {
            (0, None) => Orientation::NoTransforms,
            (1, None) => Orientation::Rotate270,
            (2, None) => Orientation::Rotate180,
            (_, None) => Orientation::Rotate90,
            (0, Some(0)) | (2, Some(1)) => Orientation::FlipVertical,
            (0, Some(_)) | (2, Some(_)) => Orientation::FlipHorizontal,
            (1, Some(0)) | (3, Some(1)) => Orientation::Rotate90FlipH,
            (_, Some(_)) => Orientation::Rotate270FlipH,
        }
    }

    pub(super) fn grid(&self) -> Option<Grid> {
        let mut fields = Fields(&self.data);
        let (_, flags) = (fields.number(1)?, fields.number(1)?);
        let (rows, columns) = (fields.number(1)? as u32 + 1, fields.number(1)? as u32 + 1);
        let is_long = flags & 1 == 1;
        let size = (fields.number_of(is_long)?, fields.number_of(is_long)?);
        (size.0 > 0 && size.1 > 0).then_some(Grid { rows, columns, size })
    }
}

/// What a `colr` box of kind `nclx` says.
fn signal(name: &[u8; 4], mut fields: Fields<'_>) -> Option<Signal> {
    if name != b"colr" || fields.bytes(4)? != b"nclx" {
        return None;
    }
    fields.bytes(4)?; // Primaries and transfer characteristics, which only a conversion between screens needs.
    Some(Signal { matrix: fields.number(2)? as u16, is_full_range: fields.number(1)? >> 7 == 1 })
}
