//! The OpenAPI document, made from the table of routes.

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::json;
use troupe_api::Problem;
use utoipa::openapi::{
    Components, Content, Info, License, OpenApi, OpenApiBuilder, PathItem, PathsBuilder, RefOr,
    Required, Response, ResponseBuilder, SecurityRequirement,
    extensions::Extensions,
    path::{HttpMethod, Operation, OperationBuilder, ParameterBuilder, ParameterIn},
    request_body::RequestBodyBuilder,
    schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type},
    security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use super::route::{Access, Gives, Route, Schemas, Takes, of};

const JSON: &str = "application/json";
const ZIP: &str = "application/zip";
const PROBLEM: &str = "application/problem+json";

/// The document as JSON text, made once.
pub(super) static TEXT: LazyLock<String> =
    LazyLock::new(|| document().to_json().unwrap_or_default());

/// The whole document.
#[must_use]
pub fn document() -> OpenApi {
    let mut schemas = Schemas::new();
    let mut paths = PathsBuilder::new();
    for route in super::routes() {
        let operation = operation(route, &mut schemas);
        paths = paths.path(route.path, PathItem::new(method(route.method), operation));
    }
    for op in crate::live::ops() {
        (op.schema)(&mut schemas);
    }
    let mut info = Info::new("Troupe", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "Teams of AI agents: REST beside Socket.IO (`/socket.io`, namespace `/chat`) and \
         `wss /api/v1/stream`. Refusals are `application/problem+json`; what is not the \
         caller's answers exactly as what does not exist."
            .to_owned(),
    );
    info.license = Some(License::new("Apache-2.0"));
    let mut components = Components::new();
    components.schemas = schemas.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    let live = Extensions::builder().add("x-live-operations", live_operations()).build();
    let mut document =
        OpenApiBuilder::new().info(info).paths(paths.build()).components(Some(components)).build();
    document.extensions = Some(live);
    document
}

/// The operations of Socket.IO and the stream, for generated tests and documents.
fn live_operations() -> serde_json::Value {
    let row = |op: &crate::live::Op| {
        let mut schemas = Schemas::new();
        let payload = serde_json::to_value((op.schema)(&mut schemas)).unwrap_or_default();
        json!({
            "name": op.name, "summary": op.summary, "access": op.access.word(),
            "payload": payload,
        })
    };
    crate::live::ops().iter().map(row).collect()
}

fn method(name: &str) -> HttpMethod {
    match name {
        "POST" => HttpMethod::Post,
        "PUT" => HttpMethod::Put,
        "PATCH" => HttpMethod::Patch,
        "DELETE" => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}

fn operation(route: &Route, schemas: &mut Schemas) -> Operation {
    let mut operation = OperationBuilder::new()
        .operation_id(Some(route.id))
        .summary(Some(route.summary))
        .tag(route.tag())
        .extensions(Some(Extensions::builder().add("x-access", route.access.word()).build()));
    for part in route.parts() {
        operation = operation.parameter(parameter(part, ParameterIn::Path, None));
    }
    for (name, meaning) in route.query {
        operation = operation.parameter(parameter(name, ParameterIn::Query, Some(meaning)));
    }
    if !matches!(route.access, Access::Open | Access::Proof) {
        let nothing: [&str; 0] = [];
        operation = operation.security(SecurityRequirement::new("bearer", nothing));
    }
    let body = match route.takes {
        Takes::Nothing => None,
        Takes::Json(schema) => Some(vec![(JSON, schema(schemas))]),
        Takes::Documents => {
            Some(vec![("application/yaml", text_schema()), (JSON, super::route::any(schemas))])
        }
        Takes::Package => Some(vec![("multipart/form-data", form_schema()), (ZIP, bytes_schema())]),
    };
    if let Some(contents) = body {
        let mut body = RequestBodyBuilder::new().required(Some(Required::True));
        for (media_type, schema) in contents {
            body = body.content(media_type, Content::new(Some(schema)));
        }
        operation = operation.request_body(Some(body.build()));
    }
    operation = operation.response(route.status.to_string(), success(route, schemas));
    for status in refusals(route) {
        let content = Content::new(Some(of::<Problem>(schemas)));
        let response = ResponseBuilder::new().description(meaning(status));
        operation =
            operation.response(status.to_string(), response.content(PROBLEM, content).build());
    }
    operation.build()
}

fn success(route: &Route, schemas: &mut Schemas) -> Response {
    let response = ResponseBuilder::new().description("Done.");
    match route.gives {
        Gives::Nothing => response.build(),
        Gives::Json(schema) => response.content(JSON, Content::new(Some(schema(schemas)))).build(),
        Gives::Lines(schema) => {
            response.content("application/x-ndjson", Content::new(Some(schema(schemas)))).build()
        }
        Gives::Bytes => {
            response.content("application/octet-stream", Content::new(Some(bytes_schema()))).build()
        }
        Gives::Zip => response.content(ZIP, Content::new(Some(bytes_schema()))).build(),
        Gives::Text => response.content("text/plain", Content::new(Some(text_schema()))).build(),
    }
}

fn parameter(
    name: &str,
    place: ParameterIn,
    meaning: Option<&str>,
) -> utoipa::openapi::path::Parameter {
    let required = if place == ParameterIn::Path { Required::True } else { Required::False };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .description(meaning)
        .schema(Some(text_schema()))
        .build()
}

fn bytes_schema() -> RefOr<Schema> {
    let binary = SchemaFormat::KnownFormat(KnownFormat::Binary);
    ObjectBuilder::new().schema_type(Type::String).format(Some(binary)).into()
}

/// A package in a form.
fn form_schema() -> RefOr<Schema> {
    let form = ObjectBuilder::new().schema_type(Type::Object);
    let form = form.property("file", bytes_schema()).required("file");
    form.property("name", text_schema()).property("namespace", text_schema()).into()
}

fn text_schema() -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).into()
}

fn refusals(route: &Route) -> Vec<u16> {
    let mut statuses = vec![421, 503];
    match route.access {
        Access::Open => {}
        Access::Proof => statuses.extend([401, 410, 429]),
        Access::Caller => statuses.push(401),
        Access::Task | Access::Namespace | Access::Owner => statuses.extend([401, 404]),
        Access::Admin | Access::Scrape => statuses.extend([401, 403]),
    }
    if route.access == Access::Admin && !route.parts().is_empty() {
        statuses.push(404);
    }
    // What was begun and goes on: refused where there is nobody to go on with.
    if route.status == 202 {
        statuses.push(409);
    }
    if matches!(route.takes, Takes::Package) {
        statuses.push(400);
    }
    if !matches!(route.takes, Takes::Nothing) {
        statuses.extend([409, 413, 415, 422]);
    } else if !route.query.is_empty() {
        statuses.push(422);
    }
    statuses.sort_unstable();
    statuses.dedup();
    statuses
}

const fn meaning(status: u16) -> &'static str {
    match status {
        400 => "It cannot be read.",
        401 => "No valid token, key, password or proof.",
        403 => "Not allowed with this role.",
        404 => "Not there, or not the caller's.",
        409 => "In conflict with what is there.",
        410 => "Used, replaced or trimmed.",
        413 => "The body is too large.",
        415 => "The body is of another media type.",
        421 => "The node does not answer to this host name.",
        422 => "A field is wrong; `errors` says which.",
        429 => "Too many attempts.",
        _ => "Not now: see Retry-After.",
    }
}
