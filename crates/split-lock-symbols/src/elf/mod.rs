//! ELF files: code by its address, and what it belongs to.

mod file;
#[cfg(test)]
#[path = "../../tests/fixture/mod.rs"]
pub(crate) mod fixture;
mod image;
mod lines;
mod load;
mod name;
mod objects;
mod symbols;
#[cfg(test)]
mod tests;

pub(crate) use self::file::UntrustedFile;
pub(crate) use self::image::Image;
pub use self::lines::SourceLine;
pub use self::name::FunctionName;
pub use self::symbols::Function;
pub(crate) use self::symbols::to_read;
