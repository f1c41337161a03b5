//! What a call is for.

use crate::docs;
use crate::playground;
use crate::routing::admin_call::AdminCall;
use crate::routing::upload_call::UploadCall;
use latentd_queue::queue::RequestId;
use latentd_queue::storage::FileKey;

/// The purpose of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Submit(Application),
    Run(Application),
    RunStream(Application),
    /// A web socket: inputs in, results out.
    Realtime(Application),
    /// A web socket that carries runs and streams.
    OverWebSocket(Application),
    Status(RequestId),
    StatusStream(RequestId),
    Result(RequestId),
    Cancel(RequestId),
    Payloads(RequestId),
    File(FileKey),
    SigningKeys,
    Upload(UploadCall),
    Tokens,
    Playground(&'static playground::Asset),
    Models,
    /// A model by any of its names.
    Model(String),
    GenerateImages,
    EditImages,
    Live,
    Ready,
    Metrics,
    Admin(AdminCall),
    Document,
    Docs,
    DocsAsset(&'static docs::Asset),
    Proxy,
}

/// Below these stand an owner and a name, elsewhere an owner is the first of an id.
const NAMESPACES: [&str; 2] = ["workflows", "comfy"];

/// An endpoint id: `fal-ai/stable-diffusion-v35-large` and what follows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Application {
    /// Owner and alias, below a namespace if there is one.
    pub(crate) id: String,
    /// The rest, without a leading slash.
    pub(crate) path: String,
}

impl Target {
    /// Whether it is a web socket, whose messages make requests.
    pub(crate) fn is_web_socket(&self) -> bool {
        matches!(self, Self::Realtime(_) | Self::OverWebSocket(_))
    }

    /// The application that a call runs now, while its client waits.
    pub(crate) fn running(&self) -> Option<&Application> {
        match self {
            Self::Run(application)
            | Self::RunStream(application)
            | Self::Realtime(application)
            | Self::OverWebSocket(application) => Some(application),
            _ => None,
        }
    }
}

impl Application {
    /// Reads an endpoint id.
    pub(crate) fn named(id: &str) -> Option<Self> {
        Self::of(&id.split('/').filter(|segment| !segment.is_empty()).collect::<Vec<_>>())
    }

    pub(crate) fn of(segments: &[&str]) -> Option<Self> {
        let in_namespace = segments.first().is_some_and(|first| NAMESPACES.contains(first));
        let named = segments.len().min(if in_namespace { 3 } else { 2 });
        (named > 0).then(|| Self { id: segments[..named].join("/"), path: segments[named..].join("/") })
    }

    /// The application to stream, if the path ends in `stream`.
    pub(crate) fn streamed(&self) -> Option<Self> {
        let path = self.path.strip_suffix("stream")?;
        let above = path.strip_suffix('/').or_else(|| path.is_empty().then_some(path))?;
        Some(Self { id: self.id.clone(), path: above.to_owned() })
    }

    /// The name without its namespace.
    pub(crate) fn alias(&self) -> &str {
        self.id.rsplit('/').next().unwrap_or_default()
    }
}
