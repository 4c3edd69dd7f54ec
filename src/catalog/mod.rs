//! Models, their prices and their aliases: `conf/models.toml`, read and checked.
