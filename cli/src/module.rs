//! Reading a module from a file.

use std::path::Path;

use crate::failure::{Code, Failure};

/// Reads a module in its binary form. A file whose name ends in `.wat` is assembled first.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = std::fs::read(path).map_err(|error| {
        Failure::new(
            Code::File,
            format_args!("cannot read {}: {error}", path.display()),
        )
    })?;
    if path.extension().is_some_and(|extension| extension == "wat") {
        let assembled = wat::Parser::new().parse_bytes(Some(path), &bytes);
        return assembled.map(Into::into).map_err(|error| {
            Failure::new(
                Code::NotWasm,
                format_args!("cannot assemble {}: {error}", path.display()),
            )
        });
    }
    Ok(bytes)
}

/// Reads the module that an option names as NAME=FILE: the name, and the module in its binary form.
pub(crate) fn read_named<'a>(option: &str, text: &'a str) -> Result<(&'a str, Vec<u8>), Failure> {
    match text.split_once('=') {
        Some((name, file)) => Ok((name, read(Path::new(file))?)),
        None => Err(Failure::new(
            Code::Usage,
            format_args!("{option} {text} is not NAME=FILE, such as plugin=plugin.wasm"),
        )),
    }
}
