"""Coming from elsewhere: first files, and other products' configurations made into ours.

Readers (`swanctl`, `ipsec_conf`, `panos`) make a `FileDraft` of a text; `toml_writer` writes it; `outcome` asks the configuration's
own check, and leaves as comments what that refuses. What a source says and this gateway has not is a remark with its line.
"""
