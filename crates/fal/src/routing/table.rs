//! The table of routes: each is stated here once, and the router, authentication, the guard and the OpenAPI document
//! read it.

use crate::output::error::ApiError;
use crate::routing::admin_call::AdminCall;
use crate::routing::parameters::Parameters;
use crate::routing::target::Target;
use crate::routing::upload_call::UploadCall;
use axum::http::Method;

/// One route.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) verb: Verb,
    pub(crate) place: Place,
    /// Its path: names in braces stand for one segment each, `{application}` for an endpoint's id. Below
    /// [`Place::Request`] and the places of applications a prefix may stand before it.
    pub(crate) template: &'static str,
    pub(crate) access: Access,
    /// Makes the target of the values of the path; [`ApiError::UnknownPath`] when the route does not have that path.
    pub(crate) target: fn(&Parameters<'_>) -> Result<Target, ApiError>,
    /// Its operation in the OpenAPI document, unless it is not documented.
    pub(crate) operation: Option<&'static str>,
}

/// The methods of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// GET, and HEAD for the headers alone.
    Read,
    Get,
    Post,
    Put,
    Delete,
    Any,
}

/// On which hosts and below which prefixes a route is found. Earlier places come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Every host but those of the queue, where an application may have the path.
    Rest,
    /// Every host. With another method the path is refused.
    Own,
    /// Hosts with models. With another method the path is an application's.
    Page,
    /// Below any prefix and any application.
    Request,
    /// Below `/queue`, or hosts that begin with `queue.`.
    Queue,
    /// Below `/run`, or no prefix.
    Run,
    /// Handshakes of web sockets, below `/run`, or no prefix.
    Realtime,
    /// Handshakes of web sockets, below `/ws`, or hosts that begin with `ws.`.
    OverWebSocket,
}

/// Who may call a route while the server has keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody.
    Public,
    /// Everybody who knows the name of the file, from any web page.
    File,
    /// Holders of a key.
    Key,
    /// Holders of a key, or of a token for the application.
    KeyOrToken,
    /// Whoever knows the upload in the path; its handler checks that.
    Upload,
    /// Holders of a key, or of a token for uploads; its handler checks that.
    UploadToken,
    /// Holders of a key, or everybody where the operator opened the metrics.
    Metrics,
    /// Holders of an administrator's key.
    Admin,
}

impl Verb {
    pub(crate) fn allows(self, method: &Method) -> bool {
        match self {
            Self::Read => matches!(*method, Method::GET | Method::HEAD),
            Self::Get => *method == Method::GET,
            Self::Post => *method == Method::POST,
            Self::Put => *method == Method::PUT,
            Self::Delete => *method == Method::DELETE,
            Self::Any => true,
        }
    }

    /// The methods, for the `allow` header.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Read => "GET, HEAD",
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Any => "",
        }
    }
}

impl Route {
    /// The route of an operation in the document.
    pub(crate) fn of(operation: &str) -> &'static Self {
        let found = ROUTES.iter().find(|route| route.operation == Some(operation));
        found.expect("every operation of the document has a route")
    }

    const fn new(
        verb: Verb,
        place: Place,
        template: &'static str,
        access: Access,
        target: fn(&Parameters<'_>) -> Result<Target, ApiError>,
        operation: &'static str,
    ) -> Self {
        Self { verb, place, template, access, target, operation: Some(operation) }
    }

    const fn undocumented(
        verb: Verb,
        place: Place,
        template: &'static str,
        access: Access,
        target: fn(&Parameters<'_>) -> Result<Target, ApiError>,
    ) -> Self {
        Self { verb, place, template, access, target, operation: None }
    }
}

/// The methods and the path of every route, for tests that walk them.
pub fn routes() -> impl Iterator<Item = (&'static str, &'static str)> {
    ROUTES.iter().map(|route| (route.verb.words(), route.template))
}

use Access as A;
use AdminCall as D;
use Place as P;
use Target as T;
use UploadCall as U;
use Verb as V;

/// Every route of the server. Of those of one path the first that fits is taken.
#[rustfmt::skip]
pub(crate) static ROUTES: &[Route] = &[
    Route::new(V::Post, P::Rest, "/storage/auth/token", A::Key, |_| Ok(T::Upload(U::Token)), "createUploadToken"),
    Route::new(V::Post, P::Rest, "/storage/upload/initiate", A::Key, |_| Ok(T::Upload(U::Initiate)), "initiateUpload"),
    Route::new(V::Post, P::Rest, "/storage/upload/initiate-multipart", A::Key, |_| Ok(T::Upload(U::Initiate)), "initiateMultipartUpload"),
    Route::new(V::Put, P::Rest, "/storage/upload/{upload}", A::Upload, |path| Ok(T::Upload(U::Put(path.parse("upload")?))), "putFile"),
    Route::new(V::Post, P::Rest, "/storage/upload/{upload}/complete", A::Upload, |path| Ok(T::Upload(U::Complete(path.parse("upload")?))), "completeUpload"),
    Route::new(V::Put, P::Rest, "/storage/upload/{upload}/{part}", A::Upload, |path| Ok(T::Upload(U::Part(path.parse("upload")?, path.parse("part")?))), "putPart"),
    Route::new(V::Post, P::Rest, "/files/upload", A::UploadToken, |_| Ok(T::Upload(U::Send)), "sendFile"),
    Route::new(V::Post, P::Rest, "/files/upload/multipart", A::UploadToken, |_| Ok(T::Upload(U::Begin)), "beginFile"),
    Route::new(V::Post, P::Rest, "/files/{file}/multipart/{upload}/complete", A::Upload, |path| Ok(T::Upload(U::Complete(path.parse("upload")?))), "completeFile"),
    Route::new(V::Put, P::Rest, "/files/{file}/multipart/{upload}/{part}", A::Upload, |path| Ok(T::Upload(U::Part(path.parse("upload")?, path.parse("part")?))), "sendPart"),
    Route::new(V::Post, P::Rest, "/tokens/", A::Key, |_| Ok(T::Tokens), "createToken"),

    Route::new(V::Delete, P::Own, "/v1/models/requests/{request_id}/payloads", A::Key, |path| path.request_id().map(T::Payloads), "erasePayloads"),
    Route::undocumented(V::Delete, P::Own, "/models/requests/{request_id}/payloads", A::Key, |path| path.request_id().map(T::Payloads)),
    Route::new(V::Read, P::Own, "/health", A::Public, |_| Ok(T::Ready), "health"),
    Route::new(V::Read, P::Own, "/health/ready", A::Public, |_| Ok(T::Ready), "ready"),
    Route::new(V::Read, P::Own, "/health/live", A::Public, |_| Ok(T::Live), "live"),
    Route::new(V::Read, P::Own, "/metrics", A::Metrics, |_| Ok(T::Metrics), "metrics"),
    Route::new(V::Read, P::Own, "/v1/models", A::Key, |_| Ok(T::Models), "models"),
    Route::new(V::Read, P::Own, "/v1/models/{model}", A::Key, |path| path.model().map(T::Model), "retrieveModel"),
    Route::undocumented(V::Read, P::Own, "/v1/models/{owner}/{model}", A::Key, |path| path.model().map(T::Model)),
    Route::new(V::Post, P::Own, "/v1/images/generations", A::Key, |_| Ok(T::GenerateImages), "createImage"),
    Route::new(V::Post, P::Own, "/v1/images/edits", A::Key, |_| Ok(T::EditImages), "createImageEdit"),
    Route::new(V::Read, P::Own, "/openapi.json", A::Public, |_| Ok(T::Document), "openapi"),
    Route::new(V::Read, P::Own, "/api/openapi/queue/openapi.json", A::Public, |_| Ok(T::Document), "endpointOpenapi"),
    Route::new(V::Read, P::Own, "/docs", A::Public, |_| Ok(T::Docs), "docs"),
    Route::undocumented(V::Read, P::Own, "/docs/{name}", A::Public, |path| path.docs_asset().map(T::DocsAsset)),
    Route::new(V::Read, P::Own, "/.well-known/jwks.json", A::Public, |_| Ok(T::SigningKeys), "signingKeys"),
    Route::new(V::Read, P::Own, "/files/{file}", A::File, |path| path.file_key().map(T::File), "file"),
    Route::new(V::Read, P::Own, "/admin/requests", A::Admin, |_| Ok(T::Admin(D::Requests)), "adminRequests"),
    Route::new(V::Read, P::Own, "/admin/workers", A::Admin, |_| Ok(T::Admin(D::Workers)), "adminWorkers"),
    Route::new(V::Read, P::Own, "/admin/keys", A::Admin, |_| Ok(T::Admin(D::Keys)), "adminKeys"),
    Route::new(V::Delete, P::Own, "/admin/keys/{key_id}", A::Admin, |path| path.key_id().map(|id| T::Admin(D::Revoke(id))), "revokeKey"),
    Route::new(V::Read, P::Own, "/admin/storage", A::Admin, |_| Ok(T::Admin(D::Storage)), "adminStorage"),
    Route::new(V::Post, P::Own, "/admin/drain", A::Admin, |_| Ok(T::Admin(D::Drain)), "drain"),
    Route::undocumented(V::Any, P::Own, "/api/fal/proxy", A::Key, |_| Ok(T::Proxy)),

    Route::undocumented(V::Read, P::Page, "/", A::Public, |path| path.page_asset().map(T::Playground)),
    Route::undocumented(V::Read, P::Page, "/admin", A::Public, |path| path.page_asset().map(T::Playground)),
    Route::undocumented(V::Read, P::Page, "/playground/{name}", A::Public, |path| path.page_asset().map(T::Playground)),

    Route::new(V::Get, P::Request, "/requests/{request_id}", A::Key, |path| path.request_id().map(T::Result), "result"),
    Route::undocumented(V::Get, P::Request, "/requests/{request_id}/response", A::Key, |path| path.request_id().map(T::Result)),
    Route::new(V::Get, P::Request, "/requests/{request_id}/status", A::Key, |path| path.request_id().map(T::Status), "status"),
    Route::new(V::Get, P::Request, "/requests/{request_id}/status/stream", A::Key, |path| path.request_id().map(T::StatusStream), "statusStream"),
    Route::new(V::Put, P::Request, "/requests/{request_id}/cancel", A::Key, |path| path.request_id().map(T::Cancel).or(Err(ApiError::UnknownCancel)), "cancel"),

    Route::new(V::Post, P::Queue, "/{application}", A::Key, |path| path.application().map(T::Submit), "submit"),
    // The client that waits for a result may put its input into the query.
    Route::new(V::Get, P::Run, "/{application}/stream", A::KeyOrToken, |path| path.streamed().map(T::RunStream), "runStreamByQuery"),
    Route::new(V::Post, P::Run, "/{application}/stream", A::KeyOrToken, |path| path.streamed().map(T::RunStream), "runStream"),
    Route::new(V::Get, P::Run, "/{application}", A::KeyOrToken, |path| path.application().map(T::Run), "runByQuery"),
    Route::new(V::Post, P::Run, "/{application}", A::KeyOrToken, |path| path.application().map(T::Run), "run"),
    // OpenAPI has no form for web sockets.
    Route::undocumented(V::Get, P::Realtime, "/{application}/realtime", A::KeyOrToken, |path| path.application().map(T::Realtime)),
    Route::undocumented(V::Get, P::OverWebSocket, "/ws/{application}", A::KeyOrToken, |path| path.application().map(T::OverWebSocket)),
];
