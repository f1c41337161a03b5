//! Where the file of an adapter is, by the text of a field: a file of the client, one on the Hugging Face hub or one that the
//! operator named. A path of this server's disk is never taken.

use crate::input::field::of_type;
use crate::input::fields::Fields;
use crate::input::source;
use crate::routing::call::Call;
use latentd_request::AdapterSource;
use url::Url;
use utoipa::openapi::schema::{ObjectBuilder, Type};

/// Characters of a path that messages repeat.
const SHOWN: usize = 200;

/// The schema of the field `path`. Its only examples are the operator's files: programs that try a document's examples would
/// send another that is not there.
pub(super) fn schema(about: &str, names: &[String]) -> ObjectBuilder {
    let schema = of_type(Type::String, about);
    if names.is_empty() { schema } else { schema.examples(names.iter().map(String::as_str)) }
}

/// Reads the field `path` of an adapter; `names` are those of the operator's files. What messages call the adapter, and where
/// it is, unless that is a problem.
pub(super) fn read(
    item: &mut Fields<'_>,
    path: &'static str,
    call: &Call,
    names: &[String],
) -> (String, Option<AdapterSource>) {
    let before = item.problem_count();
    let text = item.text(path, None);
    let is_text = item.problem_count() == before;
    let source = if is_text { located(item, path, text, call, names) } else { None };
    (shown(text), source)
}

/// Where the adapter of a path is.
fn located(
    item: &mut Fields<'_>,
    path: &'static str,
    text: &str,
    call: &Call,
    names: &[String],
) -> Option<AdapterSource> {
    let text = text.trim();
    let begins =
        |scheme: &str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    if ["data:", "http:", "https:"].into_iter().any(begins) {
        return source::of_field(item, path, source::source(text, call)).map(AdapterSource::File);
    }
    if names.iter().any(|name| name == text) {
        return Some(AdapterSource::Named(text.to_owned()));
    }
    let on_hub = AdapterSource::on_hub(text);
    if on_hub.is_none() {
        let problem = item.problem(path, "value_error", unknown(text, names));
        item.refuse(problem);
    }
    on_hub
}

fn unknown(text: &str, names: &[String]) -> String {
    let names = match names {
        [] => "; this server has no adapters with names of their own".to_owned(),
        names => format!(", or one of this server's adapters: {}", names.join(", ")),
    };
    format!(
        "{} is no adapter that can be had: give an http:// or https:// URL, a data URI, `owner/name` or \
         `owner/name/file.safetensors` of the Hugging Face hub{names}",
        shown(text)
    )
}

/// A path as messages name it: not the bytes of a data URI, and not the query of a URL, which may be a permission.
fn shown(text: &str) -> String {
    let text = text.trim();
    if text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:")) {
        return "data URI".to_owned();
    }
    let mut url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    if let Some(url) = &mut url {
        url.set_query(None);
        url.set_fragment(None);
    }
    let text = url.map_or_else(|| text.to_owned(), String::from);
    let mut short: String = text.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
    if text.chars().nth(SHOWN).is_some() {
        short.push('…');
    }
    short
}
