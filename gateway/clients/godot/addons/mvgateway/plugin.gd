@tool
extends EditorPlugin
## Nothing to set up: the kit's classes have names, and so are in every dialog where nodes are added. Enabling the plugin
## is not even needed.
