//! XMP in JPEG and WebP files, for what a PNG has in its text chunks: the settings that generated an image.

/// The namespace of the settings in a packet.
const NAMESPACE: &str = "urn:latentd:settings#";

/// What marks an APP1 segment of a JPEG as XMP.
const JPEG_MARK: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

/// Bytes that all values of a packet may take together: with the markup around them they fit into one segment of a JPEG,
/// whose length has 16 bits. A WebP file gets the same packet.
const MAX_VALUES_BYTES: usize = 62_000;

/// A packet with these values by their keywords, each of which is also the name of an XML element. A value that is longer
/// than its share of the packet is cut.
pub(super) fn packet(text: &[(&str, String)]) -> Vec<u8> {
    let most = MAX_VALUES_BYTES / text.len().max(1);
    let property = |(keyword, value): &(&str, String)| {
        format!("<latentd:{keyword}>{}</latentd:{keyword}>\n", escaped(value, most))
    };
    let properties: String = text.iter().map(property).collect();
    let packet = format!(
        "<?xpacket begin=\"\u{feff}\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>\n\
         <x:xmpmeta xmlns:x=\"adobe:ns:meta/\">\n\
         <rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">\n\
         <rdf:Description rdf:about=\"\" xmlns:latentd=\"{NAMESPACE}\">\n\
         {properties}</rdf:Description>\n</rdf:RDF>\n</x:xmpmeta>\n<?xpacket end=\"r\"?>"
    );
    packet.into_bytes()
}

/// The text as XML, as much of it as fits into so many bytes. Characters that XML cannot have are replaced.
fn escaped(text: &str, most: usize) -> String {
    let mut xml = String::new();
    for character in text.chars() {
        let mut letters = [0; 4];
        let escape: &str = match character {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            // A reader would make a line feed of it.
            '\r' => "&#13;",
            '\t' | '\n' => character.encode_utf8(&mut letters),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => "\u{fffd}",
            _ => character.encode_utf8(&mut letters),
        };
        if xml.len() + escape.len() > most {
            break;
        }
        xml.push_str(escape);
    }
    xml
}

/// A JPEG file with the packet in a segment of its own, after the JFIF header, which must be the first.
pub(super) fn into_jpeg(mut file: Vec<u8>, packet: &[u8]) -> Vec<u8> {
    let segment_end = |at: usize| at + 2 + usize::from(u16::from_be_bytes([file[at + 2], file[at + 3]]));
    let at = if file[2..4] == [0xff, 0xe0] { segment_end(2) } else { 2 };
    let length = (2 + JPEG_MARK.len() + packet.len()) as u16;
    let segment = [&[0xff, 0xe1], &length.to_be_bytes()[..], JPEG_MARK, packet].concat();
    file.splice(at..at, segment);
    file
}

/// A WebP file in the extended format, with the packet after the image. `file` is in the simple format.
pub(super) fn into_webp(file: &[u8], (width, height): (usize, usize), packet: &[u8]) -> Vec<u8> {
    const HAS_XMP: u8 = 0b100;
    let side = |pixels: usize| (pixels as u32 - 1).to_le_bytes();
    let (width, height) = (side(width), side(height));
    let header = [&[HAS_XMP, 0, 0, 0], &width[..3], &height[..3]].concat();
    let image = &file[12..];
    let chunks = [b"WEBP", &chunk(b"VP8X", &header)[..], image, &chunk(b"XMP ", packet)].concat();
    chunk(b"RIFF", &chunks)
}

/// A chunk of a RIFF file, padded to an even length.
fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u32).to_le_bytes();
    let padding = if content.len().is_multiple_of(2) { &[][..] } else { &[0][..] };
    [name, &length[..], content, padding].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_xml_and_cut_to_their_share() {
        let text = [("prompt", "a <b> & \"c\"\r\n庭の🦊\0\u{b}".to_owned()), ("seed", "-7".to_owned())];
        let packet = String::from_utf8(packet(&text)).expect("UTF-8");
        let prompt = "<latentd:prompt>a &lt;b&gt; &amp; \"c\"&#13;\n庭の🦊\u{fffd}\u{fffd}</latentd:prompt>";
        assert!(packet.contains(prompt) && packet.contains("<latentd:seed>-7</latentd:seed>"), "{packet}");
        assert_eq!(escaped("a&&b", 7), "a&amp;");
        assert_eq!(escaped("é🦊", 5), "é");
    }

    /// The length of a JPEG's segment has 16 bits.
    #[test]
    fn the_longest_packet_fits_into_a_segment() {
        let text = ["prompt", "negative_prompt", "seed", "steps", "guidance", "model", "Software"];
        let packet = packet(&text.map(|keyword| (keyword, "&".repeat(50_000))));
        assert!((MAX_VALUES_BYTES..65_534 - JPEG_MARK.len()).contains(&packet.len()), "{}", packet.len());
    }
}
