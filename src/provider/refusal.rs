//! What can't be left out of a request without another meaning, for dialects that give one answer in text.

use crate::error::{Error, ErrorKind, Result};

/// Refuses several choices and answers that are not text.
///
/// Errors: `UnsupportedParameter` on `n` or `modalities`; `InvalidRequest` on an `n` of zero.
pub(in crate::provider) fn one_text_answer(
    provider: &str,
    n: Option<u64>,
    modalities: Option<&[String]>,
) -> Result<()> {
    let unsupported =
        |param: &str, message: String| Err(Error::new(ErrorKind::UnsupportedParameter, message).with_param(param));
    match n {
        Some(0) => return Err(Error::invalid("n", "Invalid value for 'n': expected at least 1.")),
        Some(2..) => return unsupported("n", format!("The provider '{provider}' gives one choice for each request.")),
        _ => {}
    }
    if modalities.is_some_and(|modalities| modalities.iter().any(|modality| modality != "text")) {
        return unsupported("modalities", format!("The provider '{provider}' answers with text only."));
    }
    Ok(())
}
