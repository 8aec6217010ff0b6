//! `key ..`, `git ..`, `user ..`.

use clap::Subcommand;

/// `key ..`
#[derive(Clone, Debug, Subcommand)]
pub enum KeyVerb {
    /// Makes a key; it is shown once
    #[command(after_help = "Examples:
  troupe key add laptop
  troupe key add ci -o name > ci.key")]
    Add {
        /// Name
        name: String,
    },
    /// Lists keys
    #[command(after_help = "Example:
  troupe key ls")]
    Ls,
    /// Deletes a key; it stops working at once
    #[command(after_help = "Example:
  troupe key delete key_01k")]
    Delete {
        /// Id of the key, or a unique beginning of it
        id: String,
    },
}

/// `git ..`
#[derive(Clone, Debug, Subcommand)]
pub enum GitVerb {
    /// Sets the token for a host; it is asked for, or comes from standard input
    #[command(after_help = "Examples:
  troupe git add github.com
  echo \"$TOKEN\" | troupe git add gitlab.example.org --user oauth2 --token-stdin")]
    Add {
        /// HOST or HOST:PORT, as in https://HOST/..
        host: String,
        /// The name that goes with it [default: x-access-token, which most hosts take]
        #[arg(short, long)]
        user: Option<String>,
        /// Read the token from standard input
        #[arg(long)]
        token_stdin: bool,
    },
    /// Lists hosts; tokens are masked
    Ls,
    /// Takes the token for a host away
    Delete {
        /// HOST or HOST:PORT
        host: String,
    },
}

/// `user ..`
#[derive(Clone, Debug, Subcommand)]
pub enum UserVerb {
    /// Makes a user; the password comes from standard input or is asked for
    #[command(after_help = "Examples:
  troupe user add ada
  echo \"$PASSWORD\" | troupe user add grace --admin --password-stdin")]
    Add {
        /// Name
        name: String,
        /// May do everything
        #[arg(long)]
        admin: bool,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Lists users
    #[command(after_help = "Examples:
  troupe user ls
  troupe user ls -o json")]
    Ls,
}
