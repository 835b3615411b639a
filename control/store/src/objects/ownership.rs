//! The API server's book of who wrote which field: `metadata.managedFields`.
//!
//! Owns: how fields pass from one writer to another. Does not: talk to the server.
//! Invariant: no field is lost by it, and entries of third parties stay as they are.

use serde_json::{Map, Value};

/// Who writes for kubectl when it applies without the server's help.
pub(super) const KUBECTL: &str = "kubectl-client-side-apply";

/// What those are called who change parts of objects, beside who writes them whole.
pub(super) fn of_parts(manager: &str) -> String {
    format!("{manager}-patch")
}

/// The book after `to` has taken over, for server-side apply, what `from` wrote in other ways; `None`: that was nothing.
/// The same as client-go's `csaupgrade`: of entries for several versions of the object, one version counts.
pub(super) fn taken_over(book: &[Value], from: &[&str], to: &str) -> Option<Vec<Value>> {
    let theirs = |entry: &&Value| from.iter().any(|manager| is_of(entry, manager, "Update"));
    let ours = |entry: &&Value| is_of(entry, to, "Apply");
    let taken: Vec<&Value> = book.iter().filter(theirs).collect();
    let mut entry = book.iter().find(ours).or(taken.first().copied())?.as_object()?.clone();
    let version = entry.get("apiVersion").cloned();
    for other in taken.iter().filter(|other| other.get("apiVersion") == version.as_ref()) {
        if let (Some(Value::Object(fields)), Some(more)) =
            (entry.get_mut("fieldsV1"), other.get("fieldsV1").and_then(Value::as_object))
        {
            unite(fields, more);
        }
    }
    entry.insert("manager".into(), to.into());
    entry.insert("operation".into(), "Apply".into());
    let others = book.iter().filter(|entry| !theirs(entry) && !ours(entry)).cloned();
    (!taken.is_empty()).then(|| others.chain([Value::Object(entry)]).collect())
}

fn is_of(entry: &Value, manager: &str, operation: &str) -> bool {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
    text("manager") == manager && text("operation") == operation && text("subresource").is_empty()
}

/// Sets of fields are trees: each key is a step, the value the steps below it.
fn unite(fields: &mut Map<String, Value>, more: &Map<String, Value>) {
    for (step, below) in more {
        match (fields.get_mut(step), below) {
            (Some(Value::Object(fields)), Value::Object(more)) => unite(fields, more),
            _ => _ = fields.insert(step.clone(), below.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(manager: &str, operation: &str, fields: &Value) -> Value {
        json!({"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    #[test]
    fn what_was_created_becomes_what_was_applied() {
        let fields = json!({"f:spec": {"f:ports": {"k:{\"port\":80}": {".": {}}}}});
        let other = entry("controller", "Update", &json!({"f:status": {}}));
        let book = [entry("us", "Update", &fields), other.clone()];
        assert_eq!(taken_over(&book, &["us"], "us"), Some(vec![other, entry("us", "Apply", &fields)]));
    }

    #[test]
    fn fields_of_all_who_are_taken_over_are_united() {
        let book = [
            entry("us", "Apply", &json!({"f:spec": {"f:a": {}}})),
            entry("us", "Update", &json!({"f:spec": {"f:b": {}}, "f:metadata": {}})),
            entry(KUBECTL, "Update", &json!({"f:spec": {"f:a": {}, "f:c": {}}})),
        ];
        let all = json!({"f:spec": {"f:a": {}, "f:b": {}, "f:c": {}}, "f:metadata": {}});
        assert_eq!(taken_over(&book, &["us", KUBECTL], "us"), Some(vec![entry("us", "Apply", &all)]));
    }

    #[test]
    fn what_is_not_to_be_taken_over_stays() {
        let mut status = entry("us", "Update", &json!({"f:status": {}}));
        status["subresource"] = "status".into();
        let book = [entry("us", "Apply", &json!({})), status, entry(KUBECTL, "Update", &json!({}))];
        assert_eq!(taken_over(&book, &["us"], "us"), None);
        assert_eq!(taken_over(&[], &["us"], "us"), None);
        let mut older = entry("us", "Update", &json!({"f:old": {}}));
        older["apiVersion"] = "v1beta1".into();
        let applied = entry("us", "Apply", &json!({"f:new": {}}));
        assert_eq!(taken_over(&[applied.clone(), older], &["us"], "us"), Some(vec![applied]));
    }
}
