//! The choice of tools, for providers that can't be told all that OpenAI can.

use serde_json::Value;
use serde_json::value::RawValue;

use super::{Choices, OpenAi};
use crate::api::chat::ToolChoice;
use crate::api::scan::{Body, Edit};
use crate::error::{Error, Result};

/// Says the choice in the provider's words; what can't be said is reported.
pub(super) fn choose(dialect: &OpenAi, body: &Body, edit: &mut Edit<'_>, warnings: &mut Vec<String>) -> Result<()> {
    if dialect.tool_choice == Choices::All {
        return Ok(());
    }
    let Some(choice) = body.get::<ToolChoice>("tool_choice")? else { return Ok(()) };
    let (must_call, names) = match choice {
        ToolChoice::Auto => return Ok(()),
        ToolChoice::None if dialect.tool_choice == Choices::Auto => {
            edit.remove("tools").remove("tool_choice");
            return Ok(());
        }
        ToolChoice::None => return Ok(()),
        ToolChoice::Required => (true, None),
        ToolChoice::Function(name) => (true, Some(vec![name])),
        ToolChoice::Allowed { required, names } => (required, Some(names)),
    };
    if let Some(names) = names {
        edit.set("tools", only(body, &names)?);
    }
    match dialect.tool_choice {
        Choices::Words if must_call => edit.set("tool_choice", "\"required\""),
        _ => edit.remove("tool_choice"),
    };
    if must_call && dialect.tool_choice == Choices::Auto {
        warnings.push("tool_choice".to_owned());
    }
    Ok(())
}

/// The tools of these names.
fn only(body: &Body, names: &[String]) -> Result<String> {
    let mut tools: Vec<Box<RawValue>> = body.get("tools")?.unwrap_or_default();
    tools.retain(|tool| {
        let tool: Value = serde_json::from_str(tool.get()).unwrap_or_default();
        let name = tool.pointer("/function/name").and_then(Value::as_str);
        name.is_some_and(|name| names.iter().any(|wanted| wanted == name))
    });
    if tools.is_empty() {
        return Err(Error::invalid("tool_choice", "'tool_choice' asks for a tool that 'tools' does not hold."));
    }
    serde_json::to_string(&tools).map_err(Error::internal)
}
