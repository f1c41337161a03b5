//! The `traceparent` of W3C Trace Context: `00-TRACE-SPAN-FLAGS` in lower-case hexadecimal digits.

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// The span that a text names; `None` where it is no `traceparent`.
pub(crate) fn parse(text: &str) -> Option<SpanContext> {
    let parts: Vec<&str> = text.trim().split('-').collect();
    let [version, trace, span, flags, ..] = parts[..] else { return None };
    let are_digits = [(version, 2), (trace, 32), (span, 16), (flags, 2)]
        .iter()
        .all(|(part, length)| part.len() == *length && part.bytes().all(is_digit));
    // Later versions may have more parts; ff is none.
    if !are_digits || version == "ff" || (version == "00" && parts.len() > 4) {
        return None;
    }
    let flags = u8::from_str_radix(flags, 16).ok()?;
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(flags) & TraceFlags::SAMPLED,
        true,
        TraceState::NONE,
    );
    context.is_valid().then_some(context)
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// The text that names a span; `None` for one that is not part of a trace.
pub(crate) fn render(context: &SpanContext) -> Option<String> {
    let (trace, span) = (context.trace_id(), context.span_id());
    context.is_valid().then(|| format!("00-{trace}-{span}-{:02x}", context.trace_flags()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_names_the_span_that_it_was_made_of() {
        for text in [
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
        ] {
            let context = parse(text).expect("a span");
            assert_eq!(render(&context).as_deref(), Some(text));
        }
        let later = parse("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03-more").expect("a span");
        assert!(later.is_sampled());
    }

    #[test]
    fn other_texts_name_none() {
        for text in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(render(&SpanContext::empty_context()), None);
    }
}
