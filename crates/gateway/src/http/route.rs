//! The form of a row in the table of routes.

use axum::routing::MethodRouter;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, schema::Schema},
};

use crate::gateway::Shared;

/// Who may call an operation, and how what is foreign to them answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Open,
    /// Whoever shows a one-time token, a password or a refresh token in the request itself.
    Proof,
    /// Whoever is logged in, for things of their own.
    Caller,
    /// Whoever may see the Task; a foreign one answers exactly as an unknown one.
    Task,
    /// Whoever may see the Namespace; foreign ones answer exactly as unknown ones.
    Namespace,
    /// Owners of the thing itself (an API key); a foreign one answers as an unknown one.
    Owner,
    /// Administrators; 403 for others.
    Admin,
    /// Administrators and holders of the scrape token.
    Scrape,
}

impl Access {
    /// The word for it in the OpenAPI document (`x-access`).
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Proof => "proof",
            Self::Caller => "caller",
            Self::Task => "task",
            Self::Namespace => "namespace",
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Scrape => "scrape",
        }
    }
}

/// Schemas that a document refers to, by name.
pub(crate) type Schemas = Vec<(String, RefOr<Schema>)>;
/// Gives a reference to a schema, and adds it and what it refers to.
pub(crate) type SchemaOf = fn(&mut Schemas) -> RefOr<Schema>;

/// The schema of a type, by reference.
pub(crate) fn of<T: ToSchema>(schemas: &mut Schemas) -> RefOr<Schema> {
    let name = T::name().into_owned();
    schemas.push((name.clone(), T::schema()));
    T::schemas(schemas);
    utoipa::openapi::Ref::from_schema_name(name).into()
}

/// The schema of a page of something, and of the something.
pub(crate) fn page_of<T: ToSchema>(schemas: &mut Schemas) -> RefOr<Schema> {
    of::<T>(schemas);
    of::<troupe_api::task::Page<T>>(schemas)
}

/// Anything at all.
pub(crate) fn any(_: &mut Schemas) -> RefOr<Schema> {
    serde_json::Value::schema()
}

/// What an operation takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Takes {
    Nothing,
    Json(SchemaOf),
    Documents,
    /// A ZIP, alone or as a form's field `file`.
    Package,
}

/// What an operation gives.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Gives {
    Nothing,
    Json(SchemaOf),
    Lines(SchemaOf),
    Text,
    Bytes,
    Zip,
}

/// One operation.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// `GET`, `POST`..
    pub method: &'static str,
    /// With `{names}` of its parts.
    pub path: &'static str,
    /// Unique name.
    pub id: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Who may call it.
    pub access: Access,
    /// Its query: name and meaning.
    pub query: &'static [(&'static str, &'static str)],
    /// Status when all is well.
    pub status: u16,
    pub(crate) takes: Takes,
    pub(crate) gives: Gives,
    pub(crate) handler: fn() -> MethodRouter<Shared>,
}

impl Route {
    pub(crate) const fn new(
        method: &'static str,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        handler: fn() -> MethodRouter<Shared>,
    ) -> Self {
        Self {
            method,
            path,
            id,
            summary,
            access: Access::Caller,
            query: &[],
            status: 200,
            takes: Takes::Nothing,
            gives: Gives::Nothing,
            handler,
        }
    }

    pub(crate) const fn by(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    pub(crate) const fn query(mut self, query: &'static [(&'static str, &'static str)]) -> Self {
        self.query = query;
        self
    }

    pub(crate) const fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub(crate) const fn takes(mut self, schema: SchemaOf) -> Self {
        self.takes = Takes::Json(schema);
        self
    }

    pub(crate) const fn takes_documents(mut self) -> Self {
        self.takes = Takes::Documents;
        self
    }

    pub(crate) const fn takes_package(mut self) -> Self {
        self.takes = Takes::Package;
        self
    }

    pub(crate) const fn gives_zip(mut self) -> Self {
        self.gives = Gives::Zip;
        self
    }

    pub(crate) const fn gives(mut self, schema: SchemaOf) -> Self {
        self.gives = Gives::Json(schema);
        self
    }

    pub(crate) const fn gives_lines(mut self, schema: SchemaOf) -> Self {
        self.gives = Gives::Lines(schema);
        self
    }

    pub(crate) const fn gives_text(mut self) -> Self {
        self.gives = Gives::Text;
        self
    }

    pub(crate) const fn gives_bytes(mut self) -> Self {
        self.gives = Gives::Bytes;
        self
    }

    /// Names of the parts of its path.
    #[must_use]
    pub fn parts(&self) -> Vec<&'static str> {
        self.path.split('/').filter_map(|p| p.strip_prefix('{')?.strip_suffix('}')).collect()
    }

    /// First word of its path below the prefix.
    #[must_use]
    pub fn tag(&self) -> &'static str {
        let below = self.path.strip_prefix("/api/v1/").unwrap_or("node");
        match below.split('/').next().unwrap_or("node") {
            "setup" | "auth" => "login",
            "users" | "api-keys" => "people",
            "tasks" => "tasks",
            "devices" => "devices",
            "admin" => "admin",
            "namespaces" | "apply" | "explain" | "schema" | "kinds" | "{plural}" => "resources",
            _ => "node",
        }
    }
}
