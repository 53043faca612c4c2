"""One file per kind of alert: when it is raised, goes on and is cleared. Pure; imports what is beside this folder."""
