"""The web page of `pgjax demo`: what can be asked, how it is answered, shown and protected."""
