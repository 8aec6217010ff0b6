//! A Template becomes resources of the caller's own.

use troupe_api::{FieldError, Problem, resource::ApplyAnswer};
use troupe_domain::namespace::Precondition;
use troupe_resources::{
    Kind, Resource, instantiate, resource::DEFAULT_NAMESPACE, to_yaml_documents,
};

use super::{ApplyOptions, documents::internal, live::LiveResources};
use crate::caller::Caller;

impl LiveResources {
    /// What is there already is left as it is, and nothing is made: it may be the person's work.
    pub(super) async fn make_own(
        &self,
        caller: &Caller,
        namespace: &str,
        (kind, name): (Kind, &str),
        dry_run: bool,
    ) -> Result<ApplyAnswer, Problem> {
        if kind != Kind::Template {
            let message = format!("only a Template is made one's own, not a {kind}");
            return Err(Problem::invalid("kind", message));
        }
        let mut found = self.read_one(caller, namespace, (Kind::Template, name), None).await?;
        // Told to people, and no part of the document.
        found["metadata"].as_object_mut().map(|metadata| metadata.remove("owner"));
        let template: Resource = serde_json::from_value(found).map_err(|_| internal())?;
        let made = instantiate(&template).map_err(|_| internal())?;
        let documents = to_yaml_documents(&made);
        let options = ApplyOptions {
            dry_run,
            namespace: Some(DEFAULT_NAMESPACE.to_owned()),
            ..ApplyOptions::default()
        };
        let absent = Some(Precondition::Absent);
        // Lines of a text that nobody wrote.
        let without_lines = |faults: &mut [FieldError]| {
            for fault in faults {
                (fault.line, fault.column) = (None, None);
            }
        };
        match self.apply_all(caller, documents.as_bytes(), options, absent).await {
            Ok(mut answer) => {
                without_lines(&mut answer.warnings);
                Ok(answer)
            }
            Err(mut problem) => {
                without_lines(&mut problem.errors);
                Err(problem)
            }
        }
    }
}
